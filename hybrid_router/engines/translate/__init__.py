"""Texts in another language, by CTranslate2."""
