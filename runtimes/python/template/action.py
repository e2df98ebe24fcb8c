def main(args):
    name = args.get("name", "stranger")
    if not name:
        raise ValueError("name must not be empty")
    print("greeting", name)
    return {"greeting": f"Hello, {name}!"}
