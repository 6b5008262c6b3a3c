"""Faults planted one by one into a copy of the code: does a test see each?"""
