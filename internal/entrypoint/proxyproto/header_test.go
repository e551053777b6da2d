package proxyproto

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

func TestVersion1(t *testing.T) {
	long := "PROXY UNKNOWN " + strings.Repeat("f", 107-14-2) + "\r\n"
	for line, want := range map[string]string{
		"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n":              "192.0.2.7:56324",
		"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n":            "0.0.0.0:0",
		"PROXY TCP6 2001:db8::7 2001:db8:0:0:0:0:0:1 56324 443\r\n": "[2001:db8::7]:56324",
		"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n":                   "192.0.2.7:1",
		"PROXY UNKNOWN\r\n":                             "invalid AddrPort",
		"PROXY UNKNOWN ffff:f...f:ffff 65535 65535\r\n": "invalid AddrPort",
		long: "invalid AddrPort",

		long + "x\r\n":                                   "bad",
		strings.Replace(long, "f", "ff", 1):              "bad",
		"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\n":     "bad",
		"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443":       "bad",
		"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443 \r\n":  "bad",
		"PROXY TCP4  192.0.2.7 192.0.2.1 56324 443\r\n":  "bad",
		"PROXY TCP4\t192.0.2.7 192.0.2.1 56324 443\r\n":  "bad",
		"PROXY TCP4 192.0.2.7 192.0.2.1 56324\r\n":       "bad",
		"PROXY TCP4 192.0.2.7 192.0.2.1 56324 65536\r\n": "bad",
		"PROXY TCP4 192.0.2.7 192.0.2.1 056324 443\r\n":  "bad",
		"PROXY TCP4 192.0.2.7 192.0.2.1 +1 443\r\n":      "bad",
		"PROXY TCP4 192.0.2.07 192.0.2.1 1 443\r\n":      "bad",
		"PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n":   "bad",
		"PROXY TCP6 192.0.2.7 192.0.2.1 1 443\r\n":       "bad",
		"PROXY TCP6 fe80::1%eth0 ::1 1 443\r\n":          "bad",
		"PROXY TCP4 example.com 192.0.2.1 1 443\r\n":     "bad",
		"PROXY tcp4 192.0.2.7 192.0.2.1 1 443\r\n":       "bad",
		"PROXY UDP4 192.0.2.7 192.0.2.1 1 443\r\n":       "bad",
		"PROXY UNKNOWNX\r\n":                             "bad",
		"PROXY \r\n":                                     "bad",
		"proxy UNKNOWN\r\n":                              "bad",
		"PROXY UNKNOWN a\rb\r\n":                         "bad",
		"PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n":            "bad",
	} {
		got, err := parseLine(line)
		if text := got.String(); err == nil && text != want || err != nil && want != "bad" {
			t.Errorf("%q: %v, %v, want %s", line, got, err, want)
		}
	}
}

// v2 makes a header: command and family bytes, addresses, extensions.
func v2(command, family byte, rest string) string {
	b := append([]byte(signature2), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rest)))
	return string(b) + rest
}

func tlv(kind byte, value string) string {
	return string(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value)))) + value
}

func unhex(t *testing.T, s string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// withChecksum puts the right checksum over the four zeros that end a header.
func withChecksum(header string) string {
	b := []byte(header)
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return string(b)
}

func TestVersion2(t *testing.T) {
	four := unhex(t, "c0000207 c0000201 dc04 01bb")
	six := unhex(t, "20010db8000000000000000000000007 20010db8000000000000000000000001 dc04 01bb")
	mapped := unhex(t, "00000000000000000000ffffc0000207 20010db8000000000000000000000001 dc04 01bb")
	summed := withChecksum(v2(0x21, 0x11, four+tlv(0x04, "pad")+tlv(checksum, "\x00\x00\x00\x00")))
	for name, c := range map[string]struct{ header, want string }{
		"TCP4":              {v2(0x21, 0x11, four), "192.0.2.7:56324"},
		"TCP6":              {v2(0x21, 0x21, six), "[2001:db8::7]:56324"},
		"TCP6 with IPv4":    {v2(0x21, 0x21, mapped), "192.0.2.7:56324"},
		"extensions":        {v2(0x21, 0x11, four+tlv(0x01, "h2")+tlv(0xea, strings.Repeat("x", 2000))+tlv(0x04, "")), "192.0.2.7:56324"},
		"checksum":          {summed, "192.0.2.7:56324"},
		"LOCAL":             {v2(0x20, 0x00, ""), "invalid AddrPort"},
		"LOCAL with junk":   {v2(0x20, 0xff, "anything"), "invalid AddrPort"},
		"UNSPEC":            {v2(0x21, 0x00, ""), "invalid AddrPort"},
		"UNSPEC, extension": {v2(0x21, 0x00, tlv(4, "abc")), "invalid AddrPort"},
		"UDP4":              {v2(0x21, 0x12, four), "invalid AddrPort"},
		"unix":              {v2(0x21, 0x31, strings.Repeat("\x00", 216)), "invalid AddrPort"},

		"version 1":            {v2(0x11, 0x11, four), "bad"},
		"version 3":            {v2(0x31, 0x11, four), "bad"},
		"command 2":            {v2(0x22, 0x11, four), "bad"},
		"family 4":             {v2(0x21, 0x41, four), "bad"},
		"transport 3":          {v2(0x21, 0x13, four), "bad"},
		"family, no transport": {v2(0x21, 0x10, four), "bad"},
		"transport alone":      {v2(0x21, 0x01, four), "bad"},
		"short addresses":      {v2(0x21, 0x11, four[:11]), "bad"},
		"IPv6 of IPv4's size":  {v2(0x21, 0x21, four), "bad"},
		"short unix":           {v2(0x21, 0x31, four), "bad"},
		"over the bound":       {v2(0x21, 0x11, four+tlv(0xea, strings.Repeat("x", 4096))), "bad"},
		"cut extension":        {v2(0x21, 0x11, four+"\x01"), "bad"},
		"lying extension":      {v2(0x21, 0x11, four+"\x01\x00\x05abc"), "bad"},
		"wrong checksum":       {strings.Replace(summed, "pad", "pod", 1), "bad"},
		"short checksum":       {v2(0x21, 0x11, four+tlv(checksum, "abc")), "bad"},
		"cut":                  {v2(0x21, 0x11, four)[:20], "bad"},
		"more than announced":  {v2(0x21, 0x11, four) + "x", "bad"},
		"signature":            {strings.Replace(v2(0x21, 0x11, four), "QUIT", "QUIZ", 1), "bad"},
		"empty":                {"", "bad"},
	} {
		got, err := parseBinary([]byte(c.header))
		if text := got.String(); err == nil && text != c.want || err != nil && c.want != "bad" {
			t.Errorf("%s: %v, %v, want %s", name, got, err, c.want)
		}
	}
}

// FuzzHeader: nothing panics; what is accepted is within bounds, and what
// version 1 accepts is the only way to write it.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte(v2(0x21, 0x11, "\x01\x02\x03\x04\x01\x02\x03\x04\x00\x50\x00\x50"+tlv(4, "x"))))
	f.Add([]byte(v2(0x20, 0, "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if client, err := parseLine(string(b)); err == nil {
			if len(b) > maxLine || !strings.HasSuffix(string(b), "\r\n") || strings.Count(string(b), "\n") != 1 {
				t.Errorf("accepted %q", b)
			}
			if client.IsValid() && client.Addr() != client.Addr().Unmap() {
				t.Errorf("%q: mapped address %v", b, client)
			}
		}
		client, err := parseBinary(b)
		if err == nil && (len(b) > fixed2+maxRest || client.IsValid() && b[12] != 0x21) {
			t.Errorf("accepted %x", b)
		}
		if err == nil && client.IsValid() && client.Addr() == (netip.Addr{}) {
			t.Errorf("%x: no address", b)
		}
	})
}
