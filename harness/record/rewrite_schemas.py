"""``python -m harness.record.rewrite_schemas`` writes the committed schemas anew, and lists this version's tracks."""

from harness.files import write_atomic
from harness.record.known import KNOWN_FILE
from harness.record.schema import known_text, schema_documents, schema_path, schema_text

for name, document in schema_documents().items():
    write_atomic(schema_path(name), schema_text(document).encode(), replace=True)
write_atomic(KNOWN_FILE, known_text().encode(), replace=True)
