"""The images and the environments they are made of."""
