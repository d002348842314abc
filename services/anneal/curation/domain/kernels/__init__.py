"""The loops that touch every byte, word or pair, compiled by numba.

Import a kernel inside the function that calls it: a process that needs none then pays for no compiler. Each module's
kernels are compiled when it is imported, and kept in its `__pycache__`, or in the user's cache folder where that cannot
be written. All release the interpreter's lock and use integers only (or single divisions), so results are the same on
every machine and with any number of threads.
"""
