"""Models and data that come with the trainer: nothing is downloaded."""
