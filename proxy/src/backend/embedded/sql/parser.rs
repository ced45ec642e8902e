use super::lexer::{self, Token};
use super::{Comparison, Node, SyntaxError, Value};

/// Nesting deeper than this is refused: it would take the stack.
const DEEPEST: usize = 100;

/// Parses the expression that a text begins with.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut parser = Parser { text, token: None, depth: 0 };
    parser.advance()?;
    parser.or()
}

struct Parser<'a> {
    text: &'a str,
    token: Option<Token>,
    depth: usize,
}

impl Parser<'_> {
    fn advance(&mut self) -> Result<Option<Token>, SyntaxError> {
        let next = lexer::next(&mut self.text)?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    /// Whether the next token is this keyword; it is taken if so.
    fn keyword(&mut self, keyword: &str) -> Result<bool, SyntaxError> {
        let is_it = matches!(&self.token, Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    fn sign(&mut self, sign: &str) -> Result<bool, SyntaxError> {
        let is_it = matches!(&self.token, Some(Token::Sign(found)) if *found == sign);
        if is_it {
            self.advance()?;
        }
        Ok(is_it)
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, SyntaxError> {
        let found = self.token.as_ref().map_or("the end".to_owned(), |token| format!("{token:?}"));
        Err(SyntaxError(format!("{wanted} is expected instead of {found}")))
    }

    fn or(&mut self) -> Result<Node, SyntaxError> {
        self.deeper()?;
        let mut left = self.and()?;
        while self.keyword("OR")? {
            left = Node::Or(left.into(), self.and()?.into());
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Node, SyntaxError> {
        let mut left = self.equality()?;
        while self.keyword("AND")? {
            left = Node::And(left.into(), self.equality()?.into());
        }
        Ok(left)
    }

    fn equality(&mut self) -> Result<Node, SyntaxError> {
        let mut left = self.comparison()?;
        loop {
            left = if self.sign("=")? {
                Node::Compare(Comparison::Equal, left.into(), self.comparison()?.into())
            } else if self.sign("<>")? || self.sign("!=")? {
                Node::Compare(Comparison::NotEqual, left.into(), self.comparison()?.into())
            } else if self.keyword("IS")? {
                let not = self.keyword("NOT")?;
                if !self.keyword("NULL")? {
                    return self.unexpected("NULL");
                }
                negated(not, Node::IsNull(left.into()))
            } else {
                return Ok(left);
            };
        }
    }

    fn comparison(&mut self) -> Result<Node, SyntaxError> {
        let orders = [
            ("<", Comparison::Less),
            ("<=", Comparison::LessOrEqual),
            (">", Comparison::Greater),
            (">=", Comparison::GreaterOrEqual),
        ];
        let mut left = self.unary()?;
        'next: loop {
            for (sign, comparison) in orders {
                if self.sign(sign)? {
                    left = ordered(comparison, left, self.unary()?)?;
                    continue 'next;
                }
            }
            let before = (self.text, self.token.clone());
            let not = self.keyword("NOT")?;
            if self.keyword("BETWEEN")? {
                left = negated(not, self.between(left)?);
            } else if self.keyword("IN")? {
                left = negated(not, Node::In(left.into(), self.texts()?));
            } else {
                (self.text, self.token) = before;
                return Ok(left);
            }
        }
    }

    fn between(&mut self, value: Node) -> Result<Node, SyntaxError> {
        let low = self.unary()?;
        if !self.keyword("AND")? {
            return self.unexpected("AND");
        }
        let high = self.unary()?;
        let above = ordered(Comparison::GreaterOrEqual, value.clone(), low)?;
        let below = ordered(Comparison::LessOrEqual, value, high)?;
        Ok(Node::And(above.into(), below.into()))
    }

    fn texts(&mut self) -> Result<Vec<String>, SyntaxError> {
        if !self.sign("(")? {
            return self.unexpected("(");
        }
        let mut texts = Vec::new();
        loop {
            match self.advance()? {
                Some(Token::Text(text)) => texts.push(text),
                other => {
                    self.token = other;
                    return self.unexpected("a text");
                }
            }
            if self.sign(")")? {
                return Ok(texts);
            }
            if !self.sign(",")? {
                return self.unexpected(", or )");
            }
        }
    }

    fn unary(&mut self) -> Result<Node, SyntaxError> {
        self.deeper()?;
        let node = if self.keyword("NOT")? {
            // It binds less than a comparison does: NOT n = 3 is NOT (n = 3).
            Node::Not(self.equality()?.into())
        } else if self.sign("-")? {
            Node::Negative(self.unary()?.into())
        } else if self.sign("+")? {
            self.unary()?
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, SyntaxError> {
        if self.sign("(")? {
            let inner = self.or()?;
            return if self.sign(")")? { Ok(inner) } else { self.unexpected(")") };
        }
        if self.keyword("TRUE")? {
            return Ok(Node::Constant(Value::Bool(true)));
        }
        if self.keyword("FALSE")? {
            return Ok(Node::Constant(Value::Bool(false)));
        }
        if self.keyword("NULL")? {
            return Ok(Node::Constant(Value::Null));
        }
        match self.advance()? {
            Some(Token::Text(text)) => Ok(Node::Constant(Value::Text(text))),
            Some(Token::Integer(number)) => Ok(Node::Constant(Value::Integer(number))),
            Some(Token::Float(number)) => Ok(Node::Constant(Value::Float(number))),
            Some(Token::Word(name)) if !is_reserved(&name) => Ok(Node::Property(name)),
            other => {
                self.token = other;
                self.unexpected("a value")
            }
        }
    }

    fn deeper(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > DEEPEST { Err(SyntaxError("it is nested too deeply".to_owned())) } else { Ok(()) }
    }
}

fn is_reserved(word: &str) -> bool {
    ["AND", "OR", "NOT", "BETWEEN", "IN", "IS"].iter().any(|reserved| word.eq_ignore_ascii_case(reserved))
}

fn negated(not: bool, node: Node) -> Node {
    if not { Node::Not(node.into()) } else { node }
}

/// Texts have no order in RocketMQ's expressions.
fn ordered(comparison: Comparison, left: Node, right: Node) -> Result<Node, SyntaxError> {
    for side in [&left, &right] {
        if matches!(side, Node::Constant(Value::Text(_) | Value::Bool(_) | Value::Null)) {
            return Err(SyntaxError("only numbers can be less or greater".to_owned()));
        }
    }
    Ok(Node::Compare(comparison, left.into(), right.into()))
}
