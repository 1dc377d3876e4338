"""The commands that ask questions: explain, replay, tune, test."""
