"""Runs etcd and kube-apiserver on this machine until it is killed, with the roles that a page of the documentation gives.

kubernetes.py ETCD KUBE_APISERVER PAGE DIRECTORY
"""

import ctypes
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PR_SET_PDEATHSIG = 1
ADMIN, JOB_MANAGER = "the-token-of-an-administrator", "the-token-of-a-job-manager"
# The user that the service account of the page is.
USER = "system:serviceaccount:streaming:streamd"


def end_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(log, *command):
    return subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=end_with_parent)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(url, path, context, body=None, kind="application/yaml"):
    request = urllib.request.Request(url + path, data=body, headers={"Authorization": f"Bearer {ADMIN}", "Content-Type": kind})
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:
        return answer.read()


def wait(what, look):
    for _ in range(6000):
        try:
            return look()
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    sys.exit(f"{what} does not get ready")


def manifests(page):
    """The objects of the page that are about rights, by the path that they are created at."""
    paths = {
        "ServiceAccount": "/api/v1/namespaces/streaming/serviceaccounts",
        "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/streaming/roles",
        "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/streaming/rolebindings",
    }
    found = {}
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
        for document in re.split(r"^---$", block, flags=re.MULTILINE):
            kind = re.search(r"^kind: (\w+)$", document, re.MULTILINE)
            if kind and kind[1] in paths:
                found[paths[kind[1]]] = document.encode()
    assert len(found) == len(paths), f"{page} lacks one of {list(paths)}"
    return found


def main():
    etcd, apiserver, page, directory = (Path(argument) for argument in sys.argv[1:])
    log = (directory / "programs.log").open("w")
    client, peer, port = free_port(), free_port(), free_port()
    store = f"http://127.0.0.1:{client}"
    start(log, etcd, "--data-dir", directory / "etcd", "--listen-client-urls", store, "--advertise-client-urls", store,
          "--listen-peer-urls", f"http://127.0.0.1:{peer}")
    key = directory / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, stderr=subprocess.DEVNULL)
    tokens = directory / "tokens.csv"
    tokens.write_text(f'{ADMIN},admin,1,"system:masters"\n{JOB_MANAGER},{USER},2\n')
    (directory / "token").write_text(JOB_MANAGER + "\n")
    start(log, apiserver, "--etcd-servers", store, "--bind-address", "127.0.0.1", "--secure-port", str(port),
          "--cert-dir", directory / "certificates", "--service-account-issuer", "https://kubernetes.default.svc",
          "--service-account-key-file", key, "--service-account-signing-key-file", key, "--token-auth-file", tokens,
          "--authorization-mode", "RBAC", "--service-cluster-ip-range", "10.0.0.0/24", "--advertise-address", "127.0.0.1")
    url = f"https://127.0.0.1:{port}"
    certificate = directory / "certificates" / "apiserver.crt"
    context = wait("kube-apiserver", lambda: ssl.create_default_context(cafile=certificate))
    wait("kube-apiserver", lambda: ask(url, "/readyz", context))
    namespace = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "streaming"}}).encode()
    wait("the namespace", lambda: ask(url, "/api/v1/namespaces", context, namespace))
    for path, document in manifests(page).items():
        ask(url, path, context, document)
    print(f"Kubernetes is ready at 127.0.0.1:{port}", flush=True)
    signal.pause()


main()
