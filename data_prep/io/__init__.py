"""File access, downloads and compilation of native code."""
