"""Workflows as data: graphs, manifests of their inputs, binding, checking, styles."""
