package entrypoint

import "golang.org/x/crypto/cryptobyte"

// serverName reads the name a client asks for (RFC 6066, section 3), "" if it
// asks for none, out of its first message (RFC 8446, section 4.1.2). It gives
// up where crypto/tls is to look: the message is not whole in one record, or
// not well formed, or offers acme-tls/1.
func serverName(record []byte) (name string, ok bool) {
	const handshake, clientHello, named, protocols = 22, 1, 0, 16
	s := cryptobyte.String(record)
	var kind uint8
	var message, hello, skipped, extensions cryptobyte.String
	if !s.ReadUint8(&kind) || kind != handshake || !s.Skip(2) || !s.ReadUint16LengthPrefixed(&message) ||
		!message.ReadUint8(&kind) || kind != clientHello || !message.ReadUint24LengthPrefixed(&hello) || !message.Empty() ||
		!hello.Skip(2+32) || // version and random
		!hello.ReadUint8LengthPrefixed(&skipped) || !hello.ReadUint16LengthPrefixed(&skipped) || !hello.ReadUint8LengthPrefixed(&skipped) { // session, suites, compression
		return "", false
	}
	if hello.Empty() {
		return "", true
	}
	if !hello.ReadUint16LengthPrefixed(&extensions) || !hello.Empty() {
		return "", false
	}
	for !extensions.Empty() {
		var extension uint16
		var data cryptobyte.String
		if !extensions.ReadUint16(&extension) || !extensions.ReadUint16LengthPrefixed(&data) {
			return "", false
		}
		switch extension {
		case named:
			var names, value cryptobyte.String
			if !data.ReadUint16LengthPrefixed(&names) || !data.Empty() || !names.ReadUint8(&kind) || kind != 0 ||
				!names.ReadUint16LengthPrefixed(&value) || !names.Empty() || value.Empty() || name != "" {
				return "", false
			}
			name = string(value)
		case protocols:
			if offersChallenge(data) {
				return "", false
			}
		}
	}
	return name, true
}

// offersChallenge tells whether acme-tls/1 is among the protocols of an
// extension (RFC 7301, section 3.1).
func offersChallenge(data cryptobyte.String) bool {
	var list, protocol cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for list.ReadUint8LengthPrefixed(&protocol) {
		if string(protocol) == challengeProtocol {
			return true
		}
	}
	return false
}
