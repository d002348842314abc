"""What evaluation reaches outside: the registry, the serving service, files of answers and of scores."""
