"""C++ loops and the loader that compiles them."""
