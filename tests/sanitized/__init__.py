"""The C++ code, compiled with AddressSanitizer and UndefinedBehaviorSanitizer, on random inputs."""
