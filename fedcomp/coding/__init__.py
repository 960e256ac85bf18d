"""Lossless coding: integers to bytes and back; knows no tensor names and no torch."""
