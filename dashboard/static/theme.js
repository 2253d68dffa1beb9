// Runs before the page is drawn, so that a chosen theme never flashes.
try {
  const chosen = localStorage.getItem("atlas-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* storage may be off: then the system's theme stays */ }
