package upstream

import (
	"gatehouse/internal/wire"
)

// join copies both ways until one side ends, which ends both: first is what
// the client has sent already. While nobody speaks no buffer is held.
func join(client, server *wire.Conn, first []byte) {
	client.ReadBy(0)
	server.ReadBy(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := server.Write(first); len(first) == 0 || err == nil {
			pass(server, client)
		}
		server.Sock.Close()
	}()
	pass(client, server)
	client.Sock.Close()
	<-done
}

// pass copies from one connection to another until either ends.
func pass(to, from *wire.Conn) {
	from.Each(func(piece []byte) error { //nolint:errcheck // either end ends both
		_, err := to.Write(piece)
		return err
	})
}
