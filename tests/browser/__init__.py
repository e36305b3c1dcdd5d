"""Pages in a real Chromium: Debian's package, driven by Playwright, or the one that NEURONAGENT_CHROMIUM names."""
