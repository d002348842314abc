"""What the registry does, one module per kind of resource; transactions and the store meet the rules here."""
