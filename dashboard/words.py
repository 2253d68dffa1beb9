"""The words that a newcomer may not know, each explained in a sentence."""

__all__ = ["WORDS", "counted"]

WORDS: dict[str, str] = {
    "expert": "One of the small networks of the mixture, made for one kind of market.",
    "gate": "The part of the model that looks at a market's fingerprint and decides which experts"
    " are asked, and how much each counts.",
    "fingerprint": "Eleven statistics of a market at a bar: volatility, trend strength, spread and"
    " so on. The gate sees nothing else of the data.",
    "kernel": "A small row or square of weights that is slid along a chart: it answers where the"
    " bars look like it.",
    "template": "The hand-made shape that a kernel starts from before anything is learned.",
    "drift": "How far training has bent a kernel away from its template: 0 not at all, 1 nothing of"
    " it is left.",
    "scale": "How much an expert listens to a kernel. It starts at 1 on its own and on the shared"
    " ones, at 0.1 on the others'.",
    "champion": "The version of the model in office: what programs get when they ask for a"
    " probability.",
    "challenger": "A newer version in trial: scored every night against the champion on data that"
    " neither has seen.",
    "base rate": "How often one is right who always says the direction that was more frequent in"
    " training. A model is worth something only above it.",
    "interval": "The range in which the true figure lies with the confidence given; from resampled"
    " sessions.",
    "seed": "What the design that ATLAS grew from claimed for this market: a hypothesis, not a"
    " result.",
    "night": "One run of the pipeline, named by the midnight (UTC) up to which bars are known.",
    "stage": "One step of a night, from ingest (fetch bars) to promote (decide who is champion).",
    "load": "The share of the places that an expert takes when the two heaviest experts of each"
    " window are asked.",
    "dead expert": "An expert that the gate asks in less than half a per cent of its windows.",
    "gate drift": "The gate now asks other experts than it did when the model was chosen.",
    "fingerprint drift": "A market's statistics are no longer distributed as in the champion's"
    " training data: a change of the market, or of the data.",
    "alarm": "A number beyond the limit that was measured for it on quiet days.",
    "edge": "The base rate's log-loss less the model's: what the model knows.",
    "not judged": "Too little data to tell a change from ordinary ups and downs.",
    "e-value": "Evidence against the champion that may be looked at every night. The"
    " challenger takes over at 20, if the settings are as delivered; a mistake then has at most 5 %"
    " chance.",
    "session": "One trading day of a market's calendar.",
    "shadow log": "What champion and challenger said each night, written down as it was said and"
    " never changed afterwards.",
    "live": "Said of the newest bar, when nobody could know what would come next.",
    "abstain": "To give no answer: too little history, or a market unlike any seen in training."
    " In the trial such a row counts as the base rate.",
    "log-loss": "How surprised the model is by what happens, in nats; lower is better, and an even"
    " coin has 0.693.",
    "lift": "Of what can be known about the next move, the share that the model found; known only"
    " for simulated markets.",
    "risk and coverage": "Accuracy when only the surest windows are answered. It should be highest"
    " on the left.",
    "reliability": "Whether probabilities mean what they say: of the windows given 60 %, 60 %"
    " should go up.",
    "volatility": "How far a market usually moves in the bars named, as a fraction; 0.02 is 2 %.",
    "by chance": "How often a random walk, or an ordinary bar of this market, would show the same.",
    "vol30": "Volatility per day over the last 30 sessions; 0.02 is 2 % a day.",
    "trend_r2": "How well a straight line fits the last 30 closes; 1 is a perfect trend.",
    "trend_r2_null": "The chance that a random walk shows a weaker trend than this.",
    "hurst": "Whether moves tend to go on (above 0.5) or to turn back (below).",
    "hurst_null": "The chance that a random walk shows a lower Hurst exponent than this.",
    "spread": "Difference of ask and bid as a fraction of the price.",
    "volume_z": "Volume against its last 30 bars, in standard deviations.",
    "turnover_z": "Money traded against its last 30 bars, in standard deviations.",
    "atr": "The usual range of a bar as a fraction of the price.",
    "kurtosis": "How heavy the tails of the last 30 returns are; 3 is normal.",
    "skew_iv": "Implied volatility of puts less that of calls, in vol points.",
}


def counted(number: int, word: str) -> str:
    """Return a number and its word: 1 night, 1,200 nights."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
