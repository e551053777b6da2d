package kube

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// Relay lets pods reach a server of the rig, which listens on 127.0.0.1: what
// arrives at port of NodeIP, by TCP and UDP, goes to the server, until ctx ends.
func Relay(ctx context.Context, port int, to string) error {
	at := fmt.Sprintf("%s:%d", NodeIP, port)
	l, err := net.Listen("tcp", at)
	if err != nil {
		return fmt.Errorf("relay to %s: %w", to, err)
	}
	u, err := net.ListenPacket("udp", at)
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("relay to %s: %w", to, err)
	}
	context.AfterFunc(ctx, func() { _ = l.Close(); _ = u.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go join(c, to)
		}
	}()
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, from, err := u.ReadFrom(buffer)
			if err != nil {
				return
			}
			go answer(u, from, to, append([]byte(nil), buffer[:n]...))
		}
	}()
	return nil
}

// join relays one connection until either side ends it.
func join(c net.Conn, to string) {
	defer func() { _ = c.Close() }()
	server, err := net.DialTimeout("tcp", to, time.Second)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, c)
		_ = server.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, server)
	_ = server.Close()
}

// answer relays one question and its answer.
func answer(u net.PacketConn, from net.Addr, to string, question []byte) {
	server, err := net.Dial("udp", to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	_ = server.SetDeadline(time.Now().Add(3 * time.Second))
	buffer := make([]byte, 64<<10)
	if _, err = server.Write(question); err == nil {
		var n int
		if n, err = server.Read(buffer); err == nil {
			_, _ = u.WriteTo(buffer[:n], from)
		}
	}
}
