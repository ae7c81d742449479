"""Object stores to test with: real servers, each in a process of its own, and a proxy that injects faults before them.

Everything listens on 127.0.0.1 alone, and nothing here ever speaks to a storage outside this machine.
"""
