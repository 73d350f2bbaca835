"""The experiments of this project: arms that differ in one thing, trained, evaluated, compared."""
