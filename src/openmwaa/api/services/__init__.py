"""The services behind the API: thin handlers over the domain and the store."""
