"""The long benchmark: several seeds and cuts, every rival, resumable, beside a night."""
