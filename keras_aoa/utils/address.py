"""Addresses that a server listens on."""

import socket

from keras_aoa.utils.errors import UserError


def bound(host, port, who="serve"):
    """Return a socket that is bound to an address but does not listen yet.

    Args:
        host: Name or number of the address.
        port: Port number; 0 chooses a free port.
        who: Name of the command, for the error message.

    Raises:
        UserError: the address cannot be used.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"{who}: expected an address to listen on, received {host} and port {port} "
            f"({(error.strerror or str(error)).lower()}); choose another --host or --port."
        ) from None
    return listener


def url(host, port, path=""):
    """Return the URL of a path on a server that listens on an address."""
    return f"http://[{host}]:{port}/{path}" if ":" in host else f"http://{host}:{port}/{path}"
