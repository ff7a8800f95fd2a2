"""Tests of DiffMaCore.bundles."""
