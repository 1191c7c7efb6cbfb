"""A TCP proxy on the loopback network that is as slow as a network: what the server answers comes late, and no faster than so many bytes a second.

    slow_link.py PORT SERVER:PORT RATE DELAY
"""

import asyncio, sys, time


class Link:
    def __init__(self, host, port, rate, delay):
        self.host, self.port, self.rate, self.delay = host, port, rate, delay
        # When everything that was sent so far is through.
        self.free = 0.0

    async def connect(self, reader, writer):
        try:
            from_server, to_server = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return writer.close()
        await asyncio.gather(self.copy(reader, to_server, 0), self.copy(from_server, writer, self.delay), return_exceptions=True)

    async def copy(self, reader, writer, delay):
        """Bytes in one direction, until either side has ended. Only what is late takes room on the link: requests are small."""
        pieces = asyncio.Queue(16)
        sending = asyncio.create_task(self.send(pieces, writer))
        try:
            while piece := await reader.read(1 << 16):
                due = time.monotonic()
                if delay:
                    self.free = max(self.free, due) + len(piece) / self.rate
                    due = self.free + delay
                await pieces.put((piece, due))
        finally:
            await pieces.put((b"", 0))
            await sending

    async def send(self, pieces, writer):
        try:
            while (piece_and_due := await pieces.get())[0]:
                piece, due = piece_and_due
                await asyncio.sleep(max(0, due - time.monotonic()))
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()


async def main(port, server, rate, delay):
    host, server_port = server.rsplit(":", 1)
    link = Link(host, int(server_port), float(rate), float(delay))
    async with await asyncio.start_server(link.connect, "127.0.0.1", int(port)) as listener:
        await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
