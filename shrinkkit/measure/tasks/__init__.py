"""Models do tasks: encoders tell texts apart and find them, language models complete sentences.

`encoders` and `rivals` (counted words, word vectors) are judged on the same items; `analogies` and
`last_words` are for language models; `judging` compares two models item by item for the score card.
"""
