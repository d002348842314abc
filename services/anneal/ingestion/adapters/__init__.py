"""One module per outside thing: encodings, file formats, archives, the Hub."""
