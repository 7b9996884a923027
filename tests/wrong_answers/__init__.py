"""Plausible wrong answers to the labs, a module a lab: ``WRONG[exercise]`` lists (part of the hint meant, answer).

The answers are written as a learner would write them, independently of the mistakes that the checks know.
"""
