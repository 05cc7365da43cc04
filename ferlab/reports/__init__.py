"""HTML reports, each complete in one file, and the cards of shipped models."""
