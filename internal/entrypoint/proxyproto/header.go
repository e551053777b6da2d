// Package proxyproto reads the PROXY protocol, versions 1 and 2, by which a
// load balancer tells whose connection it passes on. It owns the bytes before
// the first request or TLS record, and the client's address; what follows is
// left unread in the socket. It knows neither TLS nor HTTP.
//
// The protocol is described in HAProxy's doc/proxy-protocol.txt.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"
)

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"

	// maxLine is a line of version 1 with its end.
	maxLine = 107
	// fixed2 is the part of version 2 that tells the length of the rest.
	fixed2 = 16
	// maxRest bounds the addresses and extensions of version 2. What balancers
	// send is some hundred bytes long.
	maxRest = 4096
	// checksum is the extension that holds a CRC32C of the header.
	checksum = 0x03
)

// parseLine reads a line of version 1, its end included. The address is not
// valid where the sender knows none: the connection is then its own.
func parseLine(line string) (netip.AddrPort, error) {
	var none netip.AddrPort
	text, ended := strings.CutSuffix(line, "\r\n")
	text, begun := strings.CutPrefix(text, signature1)
	switch {
	case !ended || !begun:
		return none, errors.New("not a line of version 1")
	case len(line) > maxLine:
		return none, fmt.Errorf("line of %d bytes, at most %d", len(line), maxLine)
	case strings.ContainsAny(text, "\r\n"):
		return none, errors.New("line with a bare CR or LF")
	case text == "UNKNOWN" || strings.HasPrefix(text, "UNKNOWN "):
		return none, nil
	}
	words := strings.Split(text, " ")
	if len(words) != 5 {
		return none, fmt.Errorf("%d words after PROXY, want protocol, two addresses, two ports", len(words))
	}
	is6 := words[0] == "TCP6"
	if !is6 && words[0] != "TCP4" {
		return none, fmt.Errorf("unknown protocol %q", words[0])
	}
	source, err := addressOf(words[1], is6)
	if err != nil {
		return none, err
	}
	if _, err := addressOf(words[2], is6); err != nil {
		return none, err
	}
	port, err := portOf(words[3])
	if err != nil {
		return none, err
	}
	if _, err := portOf(words[4]); err != nil {
		return none, err
	}
	return netip.AddrPortFrom(source, port), nil
}

func addressOf(word string, is6 bool) (netip.Addr, error) {
	a, err := netip.ParseAddr(word)
	if err != nil || a.Zone() != "" || a.Is6() != is6 {
		return netip.Addr{}, fmt.Errorf("%q is no address of the protocol named", word)
	}
	return a.Unmap(), nil
}

func portOf(word string) (uint16, error) {
	n, err := strconv.ParseUint(word, 10, 16)
	if err != nil || word != strconv.FormatUint(n, 10) {
		return 0, fmt.Errorf("%q is no port", word)
	}
	return uint16(n), nil
}

// restLength judges the fixed part of version 2 and tells how many bytes
// follow it.
func restLength(b []byte) (int, error) {
	if len(b) != fixed2 || string(b[:len(signature2)]) != signature2 {
		return 0, errors.New("not a header of version 2")
	}
	if v := b[12] >> 4; v != 2 {
		return 0, fmt.Errorf("version %d", v)
	}
	command, family, transport := b[12]&15, b[13]>>4, b[13]&15
	if command > 1 {
		return 0, fmt.Errorf("unknown command %d", command)
	}
	// Who speaks for itself (LOCAL, 0) may write here what it likes.
	if command == 1 && (family > 3 || transport > 2 || (family == 0) != (transport == 0)) {
		return 0, fmt.Errorf("unknown address family %d with transport %d", family, transport)
	}
	n := int(binary.BigEndian.Uint16(b[14:]))
	if n > maxRest {
		return 0, fmt.Errorf("%d bytes of addresses and extensions, at most %d", n, maxRest)
	}
	return n, nil
}

// parseBinary reads a whole header of version 2. The address is not valid
// where the sender speaks for itself (LOCAL), knows none, or names one that no
// TCP client has.
func parseBinary(b []byte) (netip.AddrPort, error) {
	var none, source netip.AddrPort
	if len(b) < fixed2 {
		return none, errors.New("not a header of version 2")
	}
	n, err := restLength(b[:fixed2])
	if err != nil {
		return none, err
	}
	rest := b[fixed2:]
	if len(rest) != n {
		return none, fmt.Errorf("%d bytes after the fixed part, which announces %d", len(rest), n)
	}
	if b[12]&15 == 0 { // LOCAL: what follows is to be skipped
		return none, nil
	}
	family, transport := b[13]>>4, b[13]&15
	size := [...]int{0, 12, 36, 216}[family]
	if n < size {
		return none, fmt.Errorf("%d bytes of addresses, want %d", n, size)
	}
	port := func(at int) uint16 { return binary.BigEndian.Uint16(rest[at:]) }
	switch {
	case transport != 1: // not a stream
	case family == 1:
		source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), port(8))
	case family == 2:
		source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)).Unmap(), port(32))
	}
	if err := checkExtensions(b, rest[size:]); err != nil {
		return none, err
	}
	return source, nil
}

// checkExtensions walks over the extensions, none of which is used; if there
// is a checksum it must be right.
func checkExtensions(header, extensions []byte) error {
	for rest := extensions; len(rest) > 0; {
		if len(rest) < 3 {
			return errors.New("cut extension")
		}
		n := int(binary.BigEndian.Uint16(rest[1:]))
		if len(rest) < 3+n {
			return fmt.Errorf("extension %#02x of %d bytes where %d are left", rest[0], n, len(rest)-3)
		}
		if rest[0] == checksum {
			if n != 4 {
				return fmt.Errorf("checksum of %d bytes", n)
			}
			at := len(header) - len(rest) + 3
			whole := bytes.Clone(header)
			clear(whole[at : at+4]) // it counts as zero in its own sum
			if crc32.Checksum(whole, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(rest[3:]) {
				return errors.New("the checksum is wrong")
			}
		}
		rest = rest[3+n:]
	}
	return nil
}
