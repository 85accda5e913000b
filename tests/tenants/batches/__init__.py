"""Tests of the steps that staff carry out for selected tenants."""
