"""Checks the files of deploy/ without a cluster: against the published schemas, against each other, and against the program.

Kubernetes's schemas come with kubernetes-validate (PyPI), KEDA's and Compose's with their own Go modules, by fixed versions
and checksums. Ends with a line `client result: ...`, which tests/run adds up. Run by run.sh.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
# The oldest minor release that is still maintained, and the newest known.
KUBERNETES_VERSIONS = ["1.34.0", "1.37.0"]
COMPOSE = ("github.com/compose-spec/compose-go/v2", "v2.16.2", "h1:pTp1DqQwJzFd85GzlWsSszKA1ABrV/ySqsClujIcWA8=")
KEDA = ("github.com/kedacore/keda/v2", "v2.20.2", "h1:SR60v8uIcelbveS8n/1jcl8tLdBBIbHMxmdOHw8tKqA=")

tests = []


def test(function):
    tests.append(function)
    return function


class Left(Exception):
    """What cannot be checked here, and why."""


def module(name, version, checksum):
    """The folder of a Go module, whose content is what it was."""
    if not shutil.which("go"):
        raise Left("there is no go on the PATH to fetch " + name)
    with tempfile.TemporaryDirectory() as folder:
        answer = subprocess.run(
            ["go", "mod", "download", "-json", f"{name}@{version}"], cwd=folder, capture_output=True, text=True
        )
    told = json.loads(answer.stdout or "{}")
    assert "Dir" in told, f"{name} cannot be fetched: {told.get('Error') or answer.stderr}"
    assert told["Sum"] == checksum, f"{name} {version} has another content: {told['Sum']}"
    return pathlib.Path(told["Dir"])


def documents():
    """All objects, with the file each is in. Kustomize's own file is none."""
    for path in sorted(KUBERNETES.glob("*.yaml")):
        if path.name != "kustomization.yaml":
            for one in yaml.safe_load_all(path.read_text()):
                if one is not None:
                    yield path.name, one


def of_kind(*kinds):
    return [(file, one) for file, one in documents() if one["kind"] in kinds]


def pods():
    """Every template of pods: file, owner, labels, spec."""
    for file, one in of_kind("Deployment", "StatefulSet"):
        template = one["spec"]["template"]
        yield file, one, template["metadata"]["labels"], template["spec"]


def is_chosen(selector, labels):
    return all(labels.get(key) == value for key, value in selector.items())


def metrics():
    sources = [path.read_text() for path in sorted((ROOT / "src/telemetry").glob("*.rs"))]
    return {name for source in sources for name in re.findall(r'"(wisp_[a-z_]+)"', source)}


def knobs():
    """Names of environment variables: what stands in the defaults, also commented out."""
    section, found = None, set()
    for line in (ROOT / "src/config.default.toml").read_text().splitlines():
        if head := re.match(r"\[(\w+)\]", line):
            section = head[1]
        elif knob := re.match(r"(?:# )?(\w+) = ", line):
            found.add(f"WISP_{section}_{knob[1]}".upper())
    return found


@test
def every_object_is_as_the_schemas_of_kubernetes_say():
    count = 0
    for file, one in documents():
        if one["apiVersion"].startswith("keda.sh/"):
            continue
        for version in KUBERNETES_VERSIONS:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                raise AssertionError(f"{file}, {one['kind']}, Kubernetes {version}: {error.message} at {list(error.path)}")
        count += 1
    assert count > 12, count


@test
def a_field_that_kubernetes_does_not_know_is_refused():
    _, one = of_kind("Deployment")[0]
    one["spec"]["template"]["spec"]["containers"][0]["readOnlyRoot"] = True
    try:
        kubernetes_validate.validate(one, KUBERNETES_VERSIONS[-1], strict=True)
    except kubernetes_validate.ValidationError:
        return
    raise AssertionError("the check lets everything pass")


@test
def the_scaled_object_is_as_kedas_own_definition_says():
    folder = module(*KEDA) / "config/crd/bases"
    definition = yaml.safe_load((folder / "keda.sh_scaledobjects.yaml").read_text())
    objects = of_kind("ScaledObject")
    assert objects
    for file, one in objects:
        version = one["apiVersion"].split("/")[1]
        schema = next(v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == version)
        # The definition says nothing of unknown fields; the server drops them, which is never meant.
        close(schema)
        jsonschema.validate(one, schema)


def close(schema):
    for key, value in schema.items():
        if isinstance(value, dict):
            close(value)
    if "properties" in schema and "x-kubernetes-preserve-unknown-fields" not in schema:
        schema.setdefault("additionalProperties", False)


@test
def compose_is_as_its_specification_says():
    schema = json.loads((module(*COMPOSE) / "schema/compose-spec.json").read_text())
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    jsonschema.validate(compose, schema)
    nodes = [one for name, one in compose["services"].items() if name.startswith("node-")]
    assert len(nodes) == 3
    for one in nodes:
        assert one["read_only"] and one["cap_drop"] == ["ALL"], one
        assert any(mount.startswith("/var/lib/wisp:exec") for mount in one["tmpfs"]), "compiled code is executed from there"
        assert all(port.startswith("127.0.0.1:") for port in one["ports"])
        assert (DEPLOY / one["build"]["context"] / one["build"]["dockerfile"]).is_file()
    for mount in compose["services"]["redis"]["volumes"]:
        source = mount.split(":")[0]
        assert source in compose["volumes"] or (DEPLOY / source).is_file(), mount


@test
def kustomize_names_every_file_or_says_which_it_leaves_out():
    text = (KUBERNETES / "kustomization.yaml").read_text()
    named = set(yaml.safe_load(text)["resources"]) | set(re.findall(r"# - (\S+\.yaml)", text))
    there = {path.name for path in KUBERNETES.glob("*.yaml")}
    assert there - named == {"kustomization.yaml", "secret.example.yaml"}, there ^ named
    assert named <= there, named - there
    if shutil.which("kubectl"):
        built = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        assert built.stdout.count("registry.example.org/wisp:") == 2


@test
def whatever_points_at_something_points_at_something_that_is_there():
    owners = {(one["kind"], one["metadata"]["name"]) for _, one in documents()}
    for file, one in of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        target = one["spec"]["scaleTargetRef"]
        assert (target.get("kind", "Deployment"), target["name"]) in owners, (file, target)
    for file, one in of_kind("Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment", "StatefulSet"):
        spec = one["spec"]
        selector = spec["podSelector"] if one["kind"] == "NetworkPolicy" else spec["selector"]
        selector = selector.get("matchLabels", selector)
        chosen = [pod for _, _, labels, pod in pods() if is_chosen(selector, labels)]
        assert chosen, (file, one["metadata"]["name"], "chooses nothing")
        ports = {port["name"] for pod in chosen for c in pod["containers"] for port in c["ports"]}
        wanted = [port["targetPort"] for port in spec.get("ports", [])] if one["kind"] == "Service" else []
        for rule in spec.get("ingress", []) if one["kind"] == "NetworkPolicy" else []:
            wanted += [port["port"] for port in rule["ports"]]
        assert set(wanted) <= ports, (file, wanted, ports)
    secret = next(one for _, one in of_kind("Secret"))["stringData"]
    configs = {one["metadata"]["name"] for _, one in of_kind("ConfigMap")}
    configs |= {made["name"] for made in yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["configMapGenerator"]}
    for file, _, _, pod in pods():
        for volume in pod["volumes"]:
            assert volume.get("configMap", {"name": "redis"})["name"] in configs, (file, volume)
            for item in volume.get("secret", {}).get("items", []):
                assert item["key"] in secret, (file, item)
        for variable in (v for c in pod["containers"] for v in c.get("env", [])):
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            assert reference is None or reference["key"] in secret, (file, reference)


@test
def no_container_runs_as_root_or_writes_to_its_root():
    for file, _, _, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0, file
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", file
        assert pod["automountServiceAccountToken"] is False, file
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], file
            assert context["capabilities"] == {"drop": ["ALL"]}, file
            assert "memory" in container["resources"]["limits"], file
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            claims = {claim["metadata"]["name"] for claim in owner_claims(file)}
            assert mounts <= {volume["name"] for volume in pod["volumes"]} | claims, (file, mounts)


def owner_claims(file):
    return [claim for name, one in of_kind("StatefulSet") if name == file for claim in one["spec"]["volumeClaimTemplates"]]


@test
def a_node_has_time_to_finish_what_it_runs():
    source = (ROOT / "src/app/mod.rs").read_text()
    longest = int(re.search(r"DRAIN_MAX: Duration = Duration::from_secs\((\d+)\)", source)[1])
    for file, _, labels, pod in pods():
        if labels["app.kubernetes.io/name"] == "wisp":
            sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert pod["terminationGracePeriodSeconds"] >= longest + sleep, file


@test
def metrics_knobs_and_flags_that_are_named_exist():
    known, variables = metrics(), knobs()
    assert len(known) > 20 and "WISP_REDIS_URL" in variables and "WISP_SERVER_LISTEN" in variables
    helped = help_of_serve()
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    for path in files:
        text = path.read_text()
        for name in re.findall(r"\bwisp_[a-z_]+\b", text):
            assert name.removesuffix("_bucket") in known, f"{path.name} names {name}"
        for name in re.findall(r"\bWISP_(?!KEY\b|SYSTEM_KEY\b)[A-Z]+_[A-Z_]+\b", text):
            assert name in variables, f"{path.name} names {name}"
        for flag in re.findall(r"wisp serve[^\n|`]*", text) if helped else []:
            for name in re.findall(r"--[a-z-]+", flag):
                assert name in helped, f"{path.name} names {name}"
    for _, _, _, pod in pods():
        for argument in pod["containers"][0].get("args", []):
            assert not argument.startswith("--") or not helped or argument in helped, argument


def help_of_serve():
    program = pathlib.Path(os.environ.get("WISP", ROOT / "target/debug/wisp"))
    if not program.is_file():
        return None
    return subprocess.run([program, "serve", "--help"], capture_output=True, text=True, check=True).stdout


@test
def the_configuration_is_one_that_wisp_would_read():
    config = next(one for file, one in of_kind("ConfigMap") if file == "config.yaml")
    sections = tomllib.loads(config["data"]["wisp.toml"])
    for section, values in sections.items():
        for name in values:
            assert f"WISP_{section}_{name}".upper() in knobs(), f"[{section}] {name}"


@test
def redis_starts_with_its_configuration_and_lets_wisp_do_its_work_and_nothing_else():
    if not shutil.which("redis-server"):
        raise Left("there is no redis-server on the PATH")
    users = next(one for _, one in of_kind("Secret"))["stringData"]["users.acl"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "users.acl").write_text(users)
        socket = folder / "redis.sock"
        arguments = ["--port", "0", "--unixsocket", socket, "--dir", folder, "--aclfile", folder / "users.acl"]
        server = subprocess.Popen(["redis-server", KUBERNETES / "redis.conf", *arguments], stdout=subprocess.PIPE, text=True)
        try:
            for line in server.stdout:
                if "ready to accept connections" in line.lower():
                    break
            else:
                raise AssertionError("Redis refuses its configuration")

            def ask(user, *command):
                client = ["redis-cli", "-s", socket, "-e", "--no-auth-warning"]
                client += ["--user", user, "--pass", "PASSWORD"] if user else []
                return subprocess.run([*client, *command], capture_output=True, text=True).returncode == 0

            assert ask("probe", "PING") and not ask("probe", "GET", "wisp:a") and not ask(None, "PING")
            allowed = ["INFO server", "CONFIG GET maxmemory-policy", "ROLE", "CLIENT TRACKING on", "TIME", "SET wisp:a 1",
                       "PUBLISH wisp:n:c:1 x", "XLEN wisp:q:{a}:s", "SCRIPT LOAD return", "ZADD wisp:q:due 1 a"]
            refused = ["FLUSHALL", "CONFIG SET maxmemory 1", "SET other 1", "PUBLISH other x", "SHUTDOWN", "DEBUG JMAP", "MONITOR"]
            for command in allowed:
                # The script's text is no Lua: that Redis says so means that it may be loaded.
                assert command.startswith("SCRIPT") or ask("wisp", *command.split()), command
            for command in refused:
                assert not ask("wisp", *command.split()), command
            policy = ["redis-cli", "-s", socket, "--user", "wisp", "--pass", "PASSWORD", "--no-auth-warning"]
            told = subprocess.run([*policy, "CONFIG", "GET", "maxmemory-policy"], capture_output=True, text=True).stdout
            assert "noeviction" in told, told
        finally:
            server.terminate()
            server.wait(10)


def main():
    passed, failed = 0, 0
    for one in tests:
        try:
            one()
        except Left as why:
            # What is missing is not passed: whoever runs this is told, and tests/run installs it.
            failed += 1
            print(f"not run: {one.__name__}: {why}")
        except Exception as error:
            failed += 1
            print(f"FAILED: {one.__name__}: {type(error).__name__}: {error}")
        else:
            passed += 1
            print(f"ok: {one.__name__}")
    word = "ok" if failed == 0 else "FAILED"
    print(f"\nclient result: {word}. {passed} passed, {failed} failed (deploy)")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
