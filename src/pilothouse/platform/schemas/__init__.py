"""The documents as pydantic models, one module per kind. Only `platform.documents` and `platform.schema` use them."""
