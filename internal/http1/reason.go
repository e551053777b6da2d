package http1

import (
	"net/http"
	"strconv"
)

// Reason says why a message was refused; 0 is none. It is small enough to count
// by (below NumReasons) and an error without allocation. After any Reason the
// connection must not be used again: nothing behind that point is to be
// believed.
type Reason uint8

// The reasons. Those of request heads and bodies have the status of Status;
// for an origin's answer every reason stands for 502, or a cut connection where
// an answer has begun.
const (
	BadMethod        Reason = iota + 1 // not a token, or absurdly long
	MethodRefused                      // CONNECT, TRACE, TRACK
	BadTarget                          // byte or form that no request target has
	TargetTooLong                      // longer than Rules.MaxTarget
	Fragment                           // '#' in the target
	BadPath                            // encoded or raw separators or control bytes in the path
	BadVersion                         // not HTTP/digit.digit
	UnknownVersion                     // neither HTTP/1.1 nor HTTP/1.0
	HeadTooLarge                       // larger than Rules.MaxHead
	TooManyLines                       // more field lines than Rules.MaxLines
	BadName                            // byte outside a token in a field name, or no name
	SpaceBeforeColon                   // whitespace between name and colon, or in the name
	NoColon                            // field line without colon
	Fold                               // line that begins with whitespace (obs-fold)
	BareCR                             // CR without LF
	BareLF                             // LF without CR
	BadValue                           // control byte in a field value
	NoHost                             // no Host
	SeveralHosts                       // more than one Host line
	BadHost                            // Host or authority that is no host and port
	HostMismatch                       // Host differs from the absolute target
	BadLength                          // Content-Length that is not one plain number
	SeveralLengths                     // more than one Content-Length line
	LengthAndCoding                    // Content-Length with Transfer-Encoding
	BadCoding                          // Transfer-Encoding that is not exactly chunked
	CodingOn10                         // Transfer-Encoding on HTTP/1.0
	BadExpect                          // expectation other than 100-continue
	BadConnection                      // Connection naming too many or malformed options
	BadChunk                           // malformed chunk
	ChunkTooLarge                      // chunk size beyond counting
	ExtensionTooLong                   // chunk extensions beyond reason
	TrailersTooLarge                   // trailer section beyond its bounds
	BadTrailer                         // trailer field that may not be one
	Truncated                          // connection ended inside the message
	BadStatus                          // malformed status line
	UnaskedUpgrade                     // 101 that nobody asked for, or for something else
	TooManyInterim                     // more than MaxInterim interim answers
	Misdirected                        // for a host that this connection may not ask for
	numReasons
)

// NumReasons is the length of an array indexed by Reason.
const NumReasons = int(numReasons)

type reasonText struct {
	status int
	text   string
}

// reasons is a constant table.
var reasons = [numReasons]reasonText{
	0:                {0, "none"},
	BadMethod:        {400, "malformed method"},
	MethodRefused:    {405, "method is not served"},
	BadTarget:        {400, "malformed request target"},
	TargetTooLong:    {414, "request target too long"},
	Fragment:         {400, "fragment in the request target"},
	BadPath:          {400, "path with encoded or raw separators or control bytes"},
	BadVersion:       {400, "malformed protocol version"},
	UnknownVersion:   {505, "protocol version is neither HTTP/1.1 nor HTTP/1.0"},
	HeadTooLarge:     {431, "head too large"},
	TooManyLines:     {431, "too many header lines"},
	BadName:          {400, "malformed header name"},
	SpaceBeforeColon: {400, "whitespace before a header's colon"},
	NoColon:          {400, "header line without colon"},
	Fold:             {400, "folded header line"},
	BareCR:           {400, "CR without LF"},
	BareLF:           {400, "LF without CR"},
	BadValue:         {400, "control byte in a header value"},
	NoHost:           {400, "no Host"},
	SeveralHosts:     {400, "more than one Host"},
	BadHost:          {400, "malformed Host"},
	HostMismatch:     {400, "Host and request target differ"},
	BadLength:        {400, "malformed Content-Length"},
	SeveralLengths:   {400, "more than one Content-Length"},
	LengthAndCoding:  {400, "both Content-Length and Transfer-Encoding"},
	BadCoding:        {400, "Transfer-Encoding is not exactly chunked"},
	CodingOn10:       {400, "Transfer-Encoding on HTTP/1.0"},
	BadExpect:        {417, "unknown expectation"},
	BadConnection:    {400, "malformed or too many connection options"},
	BadChunk:         {400, "malformed chunk"},
	ChunkTooLarge:    {400, "chunk size too large"},
	ExtensionTooLong: {400, "chunk extensions too long"},
	TrailersTooLarge: {431, "trailers too large"},
	BadTrailer:       {400, "header that may not be a trailer"},
	Truncated:        {400, "message cut short"},
	BadStatus:        {502, "malformed status line"},
	UnaskedUpgrade:   {502, "upgrade that was not asked for"},
	TooManyInterim:   {502, "too many interim answers"},
	Misdirected:      {421, "the host has TLS options other than this connection's; connect anew for it"},
}

// Status is what the client of a refused request is answered.
func (r Reason) Status() int { return reasons[r].status }

// Error is the reason in words: fixed text, no part of the message.
func (r Reason) Error() string { return reasons[r].text }

// String is Error; it makes the reason a label.
func (r Reason) String() string { return reasons[r].text }

// AppendRefusal appends the whole answer to a request refused for this reason,
// Connection: close included. date is the value of Date, nothing for none; head
// leaves the body out, as the answer to HEAD.
func (r Reason) AppendRefusal(dst, date []byte, head bool) []byte {
	status := r.Status()
	text := http.StatusText(status)
	size := len(text) + len(": ") + len(r.Error()) + len("\n")
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(append(append(dst, ' '), text...), "\r\n"...)
	if len(date) > 0 {
		dst = append(append(append(dst, "Date: "...), date...), "\r\n"...)
	}
	if status == http.StatusMethodNotAllowed {
		dst = append(dst, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"...)
	}
	dst = append(dst, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(size), 10)
	dst = append(dst, "\r\nConnection: close\r\n\r\n"...)
	if head {
		return dst
	}
	dst = append(append(append(dst, text...), ": "...), r.Error()...)
	return append(dst, '\n')
}
