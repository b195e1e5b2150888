"""Files, downloads and native code."""
