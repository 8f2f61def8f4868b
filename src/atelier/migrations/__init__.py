"""How the tables have come to be. ``atelier migrate`` runs what a database lacks."""
