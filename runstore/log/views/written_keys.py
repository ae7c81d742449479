"""Mapping keys as they stand in a step key, written by SQL."""


def escaped(key: str) -> str:
    """SQL that writes a mapping key as it stands in a step key: what `runstore.keys.escape_key` does (rule K2)."""
    return f"""CASE WHEN {key} NOT GLOB '*[^-A-Za-z0-9 ._/@+=:,]*' THEN {key} ELSE (
        WITH RECURSIVE chars(place, char) AS (
            SELECT 1, substr({key}, 1, 1)
            UNION ALL SELECT place + 1, substr({key}, place + 1, 1) FROM chars WHERE place < length({key})
        ) SELECT group_concat(CASE
            WHEN char IN ('%', '[', ']') OR unicode(char) < 32 OR unicode(char) BETWEEN 127 AND 159
                OR unicode(char) IN (1564, 8206, 8207, 8294, 8295, 8296, 8297) OR unicode(char) BETWEEN 8232 AND 8238
            THEN rtrim('%' || substr(hex(char), 1, 2) || '%' || substr(hex(char), 3, 2)
                || '%' || substr(hex(char), 5), '%')
            ELSE char END, '') FROM chars) END"""
