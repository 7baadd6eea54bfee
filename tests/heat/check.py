# Gives a template to Heat's own parser, and each resource's properties to its own schema: names,
# required ones, and values that are no references.
import sys

from heat.common import template_format
from heat.engine import constraints, environment, properties, resources, template

resources.initialise()
PARAMETERS = {"external_network": "public", "key_name": "me"}


def compare(schema, value, at):
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith(("get_", "str_")):
        return
    below = schema.schema
    if isinstance(value, list):
        for number, entry in enumerate(value):
            inner = below["*"] if below and "*" in below else next(iter((below or {}).values()), None)
            if inner is not None:
                yield from compare(inner, entry, f"{at}[{number}]")
    elif isinstance(value, dict):
        yield from compare_all(below or {}, value, at)
    else:
        try:
            schema.validate_constraints(value, skipped=[constraints.CustomConstraint])
        except Exception as error:
            yield f"{at}: {error}"


def compare_all(known, given, at):
    for key, value in given.items():
        if key in known:
            yield from compare(known[key], value, f"{at}.{key}")
        elif known:
            yield f"{at} has no property {key}"
    for key, schema in known.items():
        if schema.required and key not in given:
            yield f"{at}.{key} is required"


parsed = template_format.parse(open(sys.argv[1]).read())
world = environment.Environment({"parameters": PARAMETERS})
whole = template.Template(parsed, env=world)
whole.validate()
whole.parameters(None, PARAMETERS, param_defaults={}).validate(validate_value=True)
problems = []
for name, definition in whole.resource_definitions(None).items():
    kind = world.get_class(definition.resource_type)
    given = parsed["resources"][name].get("properties") or {}
    problems += compare_all(properties.schemata(kind.properties_schema), given, name)
sys.exit("\n".join(problems) or 0)
