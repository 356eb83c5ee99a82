"""Transcription and speech translation, by faster-whisper."""
