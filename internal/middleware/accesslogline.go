package middleware

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// appendCommon writes the common log format with Traefik's additions:
//
//	ip - user [date] "METHOD path proto" status size "referer" "agent" count "router" "server" 12ms
//
// Whatever a client sends, the line stays one line and its fields their own.
func appendCommon(b []byte, x *Entry, number int64, dates *dates) []byte {
	ip, _ := splitAddress(x.Remote)
	b = appendBare(b, ip)
	b = append(b, " - "...)
	b = appendBare(b, x.User)
	b = append(b, " ["...)
	b = append(b, dates.of(x.Start)...)
	b = append(b, `] "`...)
	b = appendEscaped(b, x.Method)
	b = append(b, ' ')
	b = appendEscaped(b, x.URI)
	b = append(b, ' ')
	b = appendEscaped(b, x.Proto)
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(x.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, x.Size, 10)
	b = appendField(b, x.Referer)
	b = appendField(b, x.Agent)
	b = append(b, ' ')
	b = strconv.AppendInt(b, number, 10)
	b = appendField(b, x.Router)
	b = appendField(b, x.Server)
	b = append(b, ' ')
	b = strconv.AppendInt(b, x.Took.Milliseconds(), 10)
	return append(b, "ms\n"...)
}

// appendField writes one quoted field, "-" where there is nothing.
func appendField(b []byte, s string) []byte {
	b = append(b, ` "`...)
	if s == "" {
		b = append(b, '-')
	}
	b = appendEscaped(b, s)
	return append(b, '"')
}

const hexDigits = "0123456789abcdef"

// appendEscaped writes text that stands in quotes: quotes, backslashes, and
// all that is no printable ASCII are escaped.
func appendEscaped(b []byte, s string) []byte {
	from := 0 // of what can be copied as it is
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		from = i + 1
		if c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else {
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(b, s[from:]...)
}

// appendBare writes a field without quotes, in which blanks are escaped too.
func appendBare(b []byte, s string) []byte {
	if s == "" {
		return append(b, '-')
	}
	for {
		before, after, found := strings.Cut(s, " ")
		if b = appendEscaped(b, before); !found {
			return b
		}
		b, s = append(b, `\x20`...), after
	}
}

// dates remembers how the second is written in which the last request began.
// The zero value is ready.
type dates struct{ last atomic.Pointer[writtenSecond] }

type writtenSecond struct {
	unix int64
	text []byte
}

// of writes t, in its zone.
func (d *dates) of(t time.Time) []byte {
	unix := t.Unix()
	s := d.last.Load()
	if s == nil || s.unix != unix {
		s = &writtenSecond{unix, t.AppendFormat(nil, "02/Jan/2006:15:04:05 -0700")}
		d.last.Store(s)
	}
	return s.text
}

// appendJSON writes one object with Traefik's names, durations in nanoseconds.
func appendJSON(b []byte, x *Entry, number int64) []byte {
	ip, port := splitAddress(x.Remote)
	host, _ := splitHost(x.Host)
	scheme := "http"
	if x.TLS {
		scheme = "https"
	}
	b = append(b, `{"ClientAddr":`...)
	b = appendQuoted(b, x.Remote)
	b = appendText(b, "ClientHost", ip)
	b = appendText(b, "ClientPort", port)
	b = appendText(b, "ClientUsername", orDash(x.User))
	b = appendNumber(b, "DownstreamContentSize", x.Size)
	b = appendNumber(b, "DownstreamStatus", int64(x.Status))
	b = appendNumber(b, "Duration", int64(x.Took))
	b = appendNumber(b, "OriginDuration", int64(x.Upstream))
	b = appendNumber(b, "RequestContentSize", max(x.BodySize, 0))
	b = appendNumber(b, "RequestCount", number)
	b = appendText(b, "RequestAddr", x.Host)
	b = appendText(b, "RequestHost", host)
	b = appendText(b, "RequestMethod", x.Method)
	b = appendText(b, "RequestPath", x.URI)
	b = appendText(b, "RequestProtocol", x.Proto)
	b = appendText(b, "RequestScheme", scheme)
	b = appendNumber(b, "RetryAttempts", int64(x.Retries))
	b = appendText(b, "RouterName", x.Router)
	b = appendText(b, "ServiceName", x.Service)
	b = appendText(b, "ServiceURL", x.Server)
	b = append(b, `,"StartUTC":"`...)
	b = x.Start.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	b = appendText(b, "entryPointName", x.EntryPoint)
	b = appendText(b, "request_Referer", x.Referer)
	b = appendText(b, "request_User-Agent", x.Agent)
	b = append(b, `,"level":"info","msg":"","time":"`...)
	b = x.Start.Add(x.Took).AppendFormat(b, time.RFC3339)
	return append(b, "\"}\n"...)
}

func appendText(b []byte, key, value string) []byte {
	b = append(b, ',', '"')
	b = append(b, key...)
	b = append(b, '"', ':')
	return appendQuoted(b, value)
}

func appendNumber(b []byte, key string, n int64) []byte {
	b = append(b, ',', '"')
	b = append(b, key...)
	b = append(b, '"', ':')
	return strconv.AppendInt(b, n, 10)
}

// appendQuoted writes a JSON string. Bytes that are no UTF-8 become U+FFFD;
// what terminals or JavaScript might obey (DEL, C1, U+2028, U+2029) is escaped
// like the control characters.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				b = append(b, `\ufffd`...)
			case r < 0xa0 || r == 0x2028 || r == 0x2029:
				b = append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			default:
				b = append(b, s[i:i+size]...)
			}
			i += size
			continue
		}
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
		i++
	}
	return append(b, '"')
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// splitAddress parts host and port of a connection's address.
func splitAddress(address string) (host, port string) {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		return strings.Trim(address[:i], "[]"), address[i+1:]
	}
	return address, ""
}
