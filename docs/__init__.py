"""The documentation, and the program that fills its generated parts from the code."""
