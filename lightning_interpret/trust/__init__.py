"""How far each explanation can be trusted: several methods on the same probes, one table, one recommendation."""
