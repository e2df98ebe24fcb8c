"""A greeting in Python: the file is what is uploaded."""


def main(args):
    name = args.get("name", "stranger")
    if not isinstance(name, str):
        return {"error": f"name must be a string, not {name!r}"}
    print("greeting", name)  # a line of the activation's log
    return {"greeting": f"Hello, {name}!"}
