package throttle

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/vm"
)

// Bounds of a condition. It has no loops and no variables, and makes no text that
// is longer than those of the report; so with these the time that it takes grows
// with the report at most.
const (
	maxCondition      = 4 << 10 // bytes; it bounds the parser's recursion
	maxConditionNodes = 300
)

// builtins are the functions of the expression language itself that conditions
// may call. Its others loop, depend on the clock, or fail on odd values.
func builtins() []string { return []string{"len", "lower", "upper", "trim"} }

// condition is a compiled expression.
type condition struct {
	program *vm.Program
	always  bool // it is the word true
}

// fault is what is wrong with a condition, and where.
type fault struct {
	at   int // byte of the condition
	text string
}

// compile checks a condition: every name, every type, and that it says true or
// false.
func compile(text string, env map[string]any) (condition, *fault) {
	if len(text) > maxCondition {
		return condition{}, &fault{0, fmt.Sprintf("the condition is %d bytes long, at most %d are allowed", len(text), maxCondition)}
	}
	allowed := &allowed{}
	options := []expr.Option{
		expr.Env(env), expr.AsBool(), expr.WarnOnAny(), expr.MaxNodes(maxConditionNodes),
		expr.DisableAllBuiltins(), expr.Patch(allowed),
	}
	for _, name := range builtins() {
		options = append(options, expr.EnableBuiltin(name))
	}
	program, err := expr.Compile(text, options...)
	if allowed.text != "" { // says more than the type check that failed because of it
		return condition{}, &fault{byteAt(text, allowed.at), allowed.text}
	}
	if wrong, ok := errors.AsType[*file.Error](err); ok {
		return condition{}, &fault{byteAt(text, wrong.From), wrong.Message}
	}
	if err != nil {
		return condition{}, &fault{0, firstLine(err.Error())}
	}
	if allowed.sum != nil {
		return condition{}, &fault{byteAt(text, allowed.sum.Location().From), "only numbers can be added"}
	}
	return condition{program, allowed.root == "true"}, nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// byteAt returns the byte at which a character begins.
func byteAt(s string, character int) int {
	at := 0
	for range character {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return at
}

// allowed notes the first thing in an expression that conditions may not use.
type allowed struct {
	at   int // character
	text string
	sum  ast.Node // an addition of what may not be numbers; nil: none, or the check of types failed
	root string   // the node that was visited last is the whole expression
}

// Visit implements ast.Visitor.
func (a *allowed) Visit(node *ast.Node) {
	a.root = (*node).String()
	switch n := (*node).(type) {
	case *ast.BuiltinNode:
		if !slices.Contains(builtins(), n.Name) {
			a.refuse(n, "there is no function "+n.Name)
		}
	case *ast.IdentifierNode:
		if n.Value == "$env" {
			a.refuse(n, "there is no $env")
		}
	case *ast.VariableDeclaratorNode:
		a.refuse(n, "there are no variables")
	case *ast.BinaryNode:
		a.operator(n)
	}
}

func (a *allowed) operator(n *ast.BinaryNode) {
	switch n.Operator {
	case "..":
		a.refuse(n, "there are no ranges; compare with >= and <=")
	case "+":
		if isText(n.Left) || isText(n.Right) {
			a.refuse(n, "texts cannot be added")
		} else if !isNumber(n.Left) || !isNumber(n.Right) {
			a.sum = n
		}
	case "==", "!=":
		if isNested(n.Left) || isNested(n.Right) {
			a.refuse(n, "lists and maps cannot be compared")
		}
	case "matches":
		if _, ok := n.Right.(*ast.StringNode); !ok {
			a.refuse(n.Right, "the pattern of matches has to be written out")
		}
	}
}

func isText(n ast.Node) bool { return kindOf(n) == reflect.String }

func isNumber(n ast.Node) bool { return kindOf(n) == reflect.Int || kindOf(n) == reflect.Float64 }

func isNested(n ast.Node) bool {
	return slices.Contains([]reflect.Kind{reflect.Slice, reflect.Array, reflect.Map}, kindOf(n))
}

// kindOf returns Invalid, or Interface, for what has a type only when it is
// evaluated.
func kindOf(n ast.Node) reflect.Kind {
	if n.Type() == nil {
		return reflect.Invalid
	}
	return n.Type().Kind()
}

func (a *allowed) refuse(n ast.Node, text string) {
	if a.text == "" {
		a.at, a.text = n.Location().From, text
	}
}
