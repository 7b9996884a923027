"""What the glossary must hold: every term of the source text and of the lessons, each with a link that arrives."""

import re
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import quote, unquote

import nbformat
import pytest

from conftest import ROOT

COURSE = ROOT / "course"
LESSONS = sorted(COURSE.glob("[0-9][0-9]_*.ipynb"))
HEADER = ["term", "Chinese", "in one sentence", "where"]
CHINESE = "[\u3400-\u9fff]"
# What a browser leaves as it is in an anchor. JupyterLab compares without decoding, so no more may be escaped.
PLAIN_IN_ANCHORS = "!#$%&'()*+,-./:;=?@[\\]^_{|}~"

# The technical terms of the Chinese text that the course began with, in its own order and spelling.
SEED_TERMS = """
训练, 不收敛, 欠拟合, 模型, 训练集, loss, 测试集, 过拟合, 死记硬背, 泛化能力, 样本, 推理
损失函数, 损失值, 参数, 梯度下降, 最低点, 最优解, 权值, 训练数据
小批量梯度下降, batch-size, 梯度, 学习率, epoch
Stable Diffusion, SD, 文本编码器, CLIP, 图像生成器, U-Net, Scheduler, 变分自动编码器, VAE
潜在扩散模型, Latent Diffusion Model, 生成模型, 扩散模型, 高斯噪声, 噪声, 前向扩散, 逆向扩散, 噪声图, 降噪
像素空间, 潜空间, Latent Space, 编码, 压缩, 颜色通道, RGB, 三原色, 像素, 向量, 维度, 降维, 特性
神经网络, 提示词, Prompt, Tokenize, Token, 条件, Condition, 图生图
分词器, Tokenizer, Text Transformer, Embedding, 高维向量, 语义信息
架构, 全连接卷积神经网络, 减少采样, 增加采样, 低维表示, 去噪, 结构
ResnetBlock, ResNet, latent 向量, timestep_embedding, 卷积, 全连接, 全连接投影
skip connection, 卷积层, 层, concat, shape
Spatial Transformer, 交叉注意力, Cross Attention, 噪声预测器, 交叉关注机制, 模块, context embedding
图片 token, 注意力机制, patch
Text Conditioning, 特征, 自注意力机制, 交叉注意力机制
Hypernetwork, 微调, 样式, LoRA, 权重, ControlNet, 轮廓, 人体姿势
DownSample, UpSample, 轴, 步长, 二维卷积, channel, 插值, content embedding, 迭代, noise_slice
解码器, 编码器, 潜在表征
文本到图像, Text-to-Image, 图像到图像, Image-to-Image, 随机种子, Seed, 初始图像, 潜在图像, 潜在噪声, 采样步骤, Euler
采样器, Sampler, CFG, Classifier-Free Guidance, 噪点, 降噪强度
"""

# What a lesson quotes in Chinese though it is no term: "by the same factor", "the condition need not be text".
QUOTED = {"同时乘以相同值", "条件不限于文本"}

# Terms of that text which the linked section explains in other words.
OTHER_WORDS = {
    "axis": "axes",
    "denoising": "removing noise",
    "image generator": "loop",
    "memorising": "memorised",
    "RGB": "red, green, blue",
}


class Row(NamedTuple):
    term: str
    chinese: str
    sentence: str
    where: str

    @property
    def names(self) -> list[str]:
        """The term, and the other name that may stand in brackets behind it."""
        return [plain(name) for name in re.fullmatch(r"([^(]+?)(?: \((.+)\))?", self.term).groups() if name]

    @property
    def forms(self) -> list[str]:
        return self.chinese.split(" / ")

    @property
    def link(self) -> tuple[str, str, str]:
        """Return the number of the lesson, its file and the anchor."""
        return re.fullmatch(r"\[lesson (\d\d)\]\(([^#()]+)#(\S+)\)", self.where).groups()


def plain(text: str) -> str:
    """Write text without emphasis, hyphens, case and line ends, so that two writings of a term are equal."""
    return " ".join(re.sub(r"[-_\s]+", " ", text.replace("*", "")).casefold().split())


def table_lines() -> list[list[str]]:
    lines = (COURSE / "glossary.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def markdown_of(lesson) -> str:
    cells = nbformat.read(lesson, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchor(title: str) -> str:
    """Return the anchor that JupyterLab gives a heading, escaped as a browser does it."""
    return quote(title.strip().replace(" ", "-"), safe=PLAIN_IN_ANCHORS)


def sections_of(markdown: str) -> list[tuple[str, str]]:
    """Return (anchor, text with the heading) of every section."""
    parts = re.split(r"^#{1,6} +(.+)$", markdown, flags=re.MULTILINE)
    return [(anchor(title), f"{title}\n{text}") for title, text in zip(parts[1::2], parts[2::2], strict=True)]


def given_pairs(markdown: str) -> list[tuple[str, str]]:
    """Return (English, Chinese) for everything that stands with Chinese in brackets, such as "*seed* (种子)"."""
    flat = " ".join(markdown.split())
    pairs = []
    for match in re.finditer(rf"[(（]([^()（）]*?)((?:[A-Z]+ )?{CHINESE}[^()（）,;.]*)[^()（）]*[)）]", flat):
        before = flat[: match.start()].rstrip(' "”')
        inside = re.search(r"\*([^*]+)\*", match[1])
        marked = re.search(r"(?<!\*)\*{1,2}([^*]+)\*{1,2}$", before)
        english = inside[1] if inside else marked[1] if marked else before.split()[-1]
        pairs.append((plain(english), match[2].strip()))
    return [pair for pair in pairs if pair[1] not in QUOTED]


def same_word(one: str, two: str) -> bool:
    short, long = sorted([one[:5], two[:5]], key=len)
    return one == two or (len(short) > 2 and long.startswith(short))


def says(row: Row, english: str) -> bool:
    """Whether a row has every word of the English term, in whatever form: converges, converge."""
    words = re.findall(r"\w+", plain(f"{row.term} {row.sentence}"))
    return all(any(same_word(word, other) for other in words) for word in re.findall(r"\w+", plain(english)))


def uses(text: str, names: list[str]) -> bool:
    """Whether one of the names, or a word that begins with it, stands in a text."""
    return any(re.search(rf"\b{re.escape(plain(name))}", plain(text)) for name in names)


ROWS = [Row(*cells) for cells in table_lines()[2:]]
MARKDOWN = {lesson.name: markdown_of(lesson) for lesson in LESSONS}
GIVEN = {name: given_pairs(text) for name, text in MARKDOWN.items()}


def given_forms(row: Row, text: str = "") -> set[str]:
    """Return those Chinese forms of a row that a text, or else any lesson, gives for its English term."""
    pairs = given_pairs(text) if text else [pair for found in GIVEN.values() for pair in found]
    return {chinese for english, chinese in pairs if chinese in row.forms and says(row, english)}


def section_of(row: Row) -> str:
    _, file, fragment = row.link
    return dict(sections_of(MARKDOWN[file]))[fragment]


def test_the_table_has_four_columns():
    lines = table_lines()
    assert lines[0] == HEADER
    assert {len(line) for line in lines} == {4}


def test_no_cell_is_empty():
    assert not [row.term for row in ROWS if not all(row)]


def test_the_rows_are_in_alphabetical_order_and_none_is_there_twice():
    terms = [row.term.casefold() for row in ROWS]
    assert not [pair for pair in pairwise(terms) if pair[0] >= pair[1]]


def test_no_two_rows_have_the_same_sentence():
    assert len({row.sentence for row in ROWS}) == len(ROWS)


def test_each_term_is_explained_in_one_sentence_of_at_most_thirty_words():
    sentence = re.compile(r"[A-Z0-9](?:(?![.!?] ).)*\.")
    assert not [row for row in ROWS if not sentence.fullmatch(row.sentence)]
    assert not [row for row in ROWS if not 4 <= len(row.sentence.split()) <= 30]


def test_every_term_of_the_source_text_is_in_the_glossary():
    names = {plain(name) for row in ROWS for name in [*row.forms, *row.names]}
    terms = [term.strip() for line in SEED_TERMS.strip().split("\n") for term in line.split(",")]
    assert len(terms) == len(set(terms)) > 100
    assert not [term for term in terms if plain(term) not in names]


def test_each_link_names_an_existing_lesson_by_its_number():
    links = [row.link for row in ROWS]
    assert not [file for number, file, _ in links if file not in MARKDOWN or not file.startswith(f"{number}_")]


def test_each_link_arrives_at_exactly_one_heading():
    anchors = {file: [name for name, _ in sections_of(text)] for file, text in MARKDOWN.items()}
    assert not [row for row in ROWS if anchors[row.link[1]].count(row.link[2]) != 1]


def test_each_link_read_backwards_is_the_text_of_a_heading():
    titles = {file: re.findall(r"^#{1,6} +(.+)$", text, flags=re.MULTILINE) for file, text in MARKDOWN.items()}
    wanted = {(file, title.strip().replace(" ", "-")) for file, found in titles.items() for title in found}
    assert not [row for row in ROWS if (row.link[1], unquote(row.link[2])) not in wanted]


def test_the_linked_section_gives_the_chinese_form_where_a_lesson_gives_one():
    wrong = [row for row in ROWS if given_forms(row) and not given_forms(row, section_of(row))]
    assert not wrong


def test_the_linked_section_uses_the_english_term_where_no_lesson_gives_a_chinese_form():
    left = [row for row in ROWS if not given_forms(row)]
    assert not [row for row in left if not uses(section_of(row), [*row.names, OTHER_WORDS.get(row.term, row.term)])]


def test_other_words_are_listed_only_for_terms_that_need_them():
    needed = {row.term for row in ROWS if not uses(section_of(row), row.names)}
    assert set(OTHER_WORDS) <= needed


@pytest.mark.parametrize("file", MARKDOWN)
def test_every_term_that_a_lesson_gives_in_both_languages_is_in_the_glossary(file):
    missing = [pair for pair in GIVEN[file] if not any(pair[1] in row.forms and says(row, pair[0]) for row in ROWS)]
    assert not missing


def test_both_languages_are_found_in_a_lesson():
    text = "A *seed* (种子), some **heads**\n(头), a tokenizer (分词器), an (aside), "
    text += "the *KL term* (KL 散度), *end* marks (*padding*, 填充)."
    assert given_pairs(text) == [
        ("seed", "种子"),
        ("heads", "头"),
        ("tokenizer", "分词器"),
        ("kl term", "KL 散度"),
        ("padding", "填充"),
    ]


def test_an_anchor_escapes_what_a_browser_escapes_and_no_more():
    assert anchor("What is a latent?") == "What-is-a-latent?"
    assert anchor('Is "noise" it, or not?') == "Is-%22noise%22-it,-or-not?"
    assert unquote(anchor("How does “eyes” learn?")) == "How-does-“eyes”-learn?"
