"""One round trip through a release: a question to the registry with its token, and the gateway's health.

The gateway is well when the registry and serving answer it. Tries until both do or the time is over, and leaves
nothing behind.
"""

import os
import sys
import time
import urllib.error
import urllib.request

import grpc

from anneal.kit.rpc.channels import open_channel
from anneal.kit.settings import ServiceSettings, read_settings
from anneal.v1 import registry_service_pb2 as pb
from anneal.v1.registry_service_pb2_grpc import RegistryServiceStub

PARENT = "projects/helm-test"


def ask_registry(settings, address):
    """List the datasets of a project: token, TLS, registry, database."""
    with open_channel(address, settings.bearer_tokens()[0], settings.tls) as channel:
        RegistryServiceStub(channel).ListDatasets(pb.ListDatasetsRequest(parent=PARENT), timeout=10)


def ask_gateway(url):
    """The gateway is well when registry and serving are."""
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
        answer.read()


def main():
    """Try until it works; one line says what did not."""
    settings = read_settings(ServiceSettings)
    registry, gateway = os.environ["REGISTRY"], os.environ["GATEWAY"]
    deadline = time.monotonic() + float(os.environ["PATIENCE_S"])
    while True:
        try:
            ask_registry(settings, registry)
            ask_gateway(gateway)
        except grpc.RpcError as error:
            problem = f"registry at {registry}: {error.code().name}: {error.details()}"
        except (urllib.error.URLError, OSError) as error:
            problem = f"gateway at {gateway}: {error}"
        else:
            print("round trip: the registry and the gateway answer")
            return
        if time.monotonic() >= deadline:
            sys.exit(f"round trip: {problem}")
        time.sleep(2)


if __name__ == "__main__":
    main()
