"""The parity certificate, with the real libraries in a real child process."""
