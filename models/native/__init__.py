"""C++ loops and the code that compiles and loads them."""
