"""``python -m harness.record``: write the committed schemas anew, and list the tracks of this version as known."""

from harness.files import write_atomic
from harness.record.known import KNOWN_FILE
from harness.record.schema import known_text, schema_documents, schema_path, schema_text

for name, document in schema_documents().items():
    write_atomic(schema_path(name), schema_text(document).encode(), replace=True)
write_atomic(KNOWN_FILE, known_text().encode(), replace=True)
