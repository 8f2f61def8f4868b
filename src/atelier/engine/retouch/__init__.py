"""Photos retouched, blended, enlarged and set in motion by classic image processing."""
