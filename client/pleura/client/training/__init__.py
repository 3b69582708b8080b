"""Local training of one federated round."""
