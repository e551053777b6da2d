package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
)

// read takes the header off a connection and nothing behind it. had tells
// whether there was one: its absence is no error.
func read(c *net.TCPConn) (client netip.AddrPort, had bool, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return client, false, err
	}
	peeked := make([]byte, maxLine)
	n, err := peek(raw, peeked, func(b []byte) bool { return decided(b) })
	if err != nil {
		return client, false, err
	}
	switch b := peeked[:n]; {
	case bytes.HasPrefix(b, []byte(signature1)):
		client, err = readLine(c, raw)
	case bytes.HasPrefix(b, []byte(signature2)):
		client, err = readBinary(c)
	default:
		return client, false, nil
	}
	return client, true, err
}

// decided: the bytes suffice to tell whether they begin a header.
func decided(b []byte) bool {
	for _, s := range []string{signature1, signature2} {
		if n := min(len(b), len(s)); n < len(s) && string(b[:n]) == s[:n] {
			return false
		}
	}
	return true
}

func readLine(c *net.TCPConn, raw syscall.RawConn) (netip.AddrPort, error) {
	line := make([]byte, maxLine)
	for have := 0; have < maxLine; {
		n, err := peek(raw, line[have:], func([]byte) bool { return true })
		if err != nil {
			return netip.AddrPort{}, err
		}
		end := bytes.IndexByte(line[:have+n], '\n') + 1
		if end > 0 {
			n = end - have
		}
		if _, err := io.ReadFull(c, line[have:have+n]); err != nil {
			return netip.AddrPort{}, err
		}
		if have += n; end > 0 {
			return parseLine(string(line[:end]))
		}
	}
	return netip.AddrPort{}, fmt.Errorf("no end of line within %d bytes", maxLine)
}

func readBinary(c *net.TCPConn) (netip.AddrPort, error) {
	header := make([]byte, fixed2, fixed2+216)
	if _, err := io.ReadFull(c, header); err != nil {
		return netip.AddrPort{}, err
	}
	n, err := restLength(header)
	if err != nil {
		return netip.AddrPort{}, err
	}
	header = append(header, make([]byte, n)...)
	if _, err := io.ReadFull(c, header[fixed2:]); err != nil {
		return netip.AddrPort{}, err
	}
	return parseBinary(header)
}

// peek waits until what has come satisfies enough, and leaves it unread. Bytes
// are taken off the socket only where they are known to be ours, so that the
// socket itself can be handed on.
func peek(raw syscall.RawConn, b []byte, enough func([]byte) bool) (n int, err error) {
	waitErr := raw.Read(func(fd uintptr) bool {
		for {
			n, _, err = syscall.Recvfrom(int(fd), b, syscall.MSG_PEEK)
			if !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		return err != nil || n == 0 || enough(b[:n])
	})
	if waitErr != nil {
		return 0, waitErr
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}
